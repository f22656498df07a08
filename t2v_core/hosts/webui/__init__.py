"""Inside AUTOMATIC1111's WebUI or Forge: the only package that imports the WebUI's `modules`."""
