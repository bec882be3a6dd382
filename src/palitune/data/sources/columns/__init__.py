"""Records of named columns, as JSON Lines, tables, archives and the Hugging Face hub hold them."""
