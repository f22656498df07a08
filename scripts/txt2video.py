"""Where the WebUI meets the extension; everything else is in the package `t2v_core`."""

from t2v_core.hosts.webui.extension import register

register()
