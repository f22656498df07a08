"""Prompt styles."""

from collections import namedtuple

PromptStyle = namedtuple("PromptStyle", ["name", "prompt", "negative_prompt"])


def _merged(style, prompt):
    if "{prompt}" in style:
        return style.replace("{prompt}", prompt)
    return ", ".join(part for part in (prompt.strip(), style.strip()) if part)


class StyleDatabase:
    def __init__(self):
        self.styles = {"bright": PromptStyle("bright", "{prompt}, bright", "dark")}

    def apply_styles_to_prompt(self, prompt, styles):
        for name in styles:
            prompt = _merged(self.styles[name].prompt, prompt)
        return prompt

    def apply_negative_styles_to_prompt(self, prompt, styles):
        for name in styles:
            prompt = _merged(self.styles[name].negative_prompt, prompt)
        return prompt
