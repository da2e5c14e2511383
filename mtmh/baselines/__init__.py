"""What two heads must beat, each in its smallest faithful form (paper section 9): classical models,
the paper's neural ones, and one contract for all of them."""
