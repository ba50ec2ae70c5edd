"""What a site configures once: runtimes and images."""
