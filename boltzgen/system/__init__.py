"""A molecular system: atoms, energy, collective variables, states."""
