"""The txt2video tab: the same fields, buttons and player in a WebUI and on a page of its own."""
