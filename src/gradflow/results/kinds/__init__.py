"""Tables that compare techniques: in pairs, in one figure over all settings, by rank, and by the share of good runs."""
