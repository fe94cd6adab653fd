"""Vision-and-language tasks on the shared encoder and trainer; a later issue builds them."""
