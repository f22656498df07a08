"""What prompts mean, without any network: weights, edits over the steps, several texts at once, key frames, wildcards.

The syntax is the WebUI's (docs/prompts.md); tests/unit/prompt_corpus.json holds what its own parser makes of prompts.
"""
