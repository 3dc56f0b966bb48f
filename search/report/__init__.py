"""A study as one document, and what is handed on of it: tables for a paper, an exported network."""
