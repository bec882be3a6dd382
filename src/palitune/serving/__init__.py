"""An HTTP server for base model and adapters, with a playground."""
