"""Running answers: asked for, made by the server, watched from anywhere, stopped, and never lost."""
