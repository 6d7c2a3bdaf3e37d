"""Closed forms and numerical predictions for networks of infinite width. Knows nothing of our models.

moments, pairs, sphere     expectations over one Gaussian, two, and a batch-normalised unit
response                   all that a law asks of an activation
law, branch, norms, laws   what a block of each kind does to the signal and to gradients
profile                    whole networks: `propagate`
fixed_point, critical      where a deep network settles, the critical line, phase diagrams
recurrent                  the same in time
jacobian, finite_width     singular values; the scatter around the mean-field line
closed_forms               what is known without quadrature
"""
