"""Vision-and-language tasks on the shared encoder and trainer."""
