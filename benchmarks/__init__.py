"""What measures the program and makes its demo model; never imported by it."""
