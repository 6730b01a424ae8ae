//! Network-namespace lab, traffic generator and measurements.
