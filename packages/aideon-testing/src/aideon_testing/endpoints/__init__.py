"""Together's endpoints, one module for each family; each gives its routes."""
