"""Elements and shells to positions, and positions to what a site sees: range, azimuth, elevation, range rate."""
