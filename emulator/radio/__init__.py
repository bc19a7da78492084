"""Geometry to carrier-to-noise, carrier-to-noise to MODCOD, MODCOD to rate."""
