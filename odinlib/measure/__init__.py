"""What the sections and appendices of the paper measure."""
