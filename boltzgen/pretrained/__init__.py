"""Networks that come with boltzgen."""
