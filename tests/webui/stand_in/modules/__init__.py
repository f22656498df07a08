"""A stand-in for the WebUI's `modules`: those parts that the extension meets, made to behave as the WebUI's do.

Nothing of it is the WebUI's code. tests/webui/test_contract.py holds it against the WebUIs' own sources.
"""
