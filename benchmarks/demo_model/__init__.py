"""How the demo model is made and judged: drawn clips, their captions, training and scoring."""
