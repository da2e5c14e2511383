"""The simulated platform: who lives there, how they behave, and what serves them."""
