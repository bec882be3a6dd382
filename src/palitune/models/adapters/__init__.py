"""LoRA, QLoRA and full fine-tuning: configuration, layers, files, switching and merging."""
