"""The pages of the book: what every page does, where it stands, and what it depends on."""
