"""References that come with boltzgen: what is known of systems by simulations made for that alone."""
