"""What all share."""

from modules import shared_options
from modules.cmd_args import parser
from modules.options import Options
from modules.shared_state import State
from modules.styles import StyleDatabase

cmd_opts = parser.parse_known_args()[0]
opts = Options(shared_options.options_templates)
state = State()
prompt_styles = StyleDatabase()
demo = None
sd_upscalers = []
