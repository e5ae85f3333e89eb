"""Find by machine what a second reader would notice; nothing is ever changed or dropped here."""
