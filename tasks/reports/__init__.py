"""What every report shares: tables in Markdown, checks, charts, pictures, and the page they stand on."""
