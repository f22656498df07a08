"""LoRAs: found by name, read in every published format, added to a model's weights and taken out again."""
