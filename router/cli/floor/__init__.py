"""Would "lose at most so much against the large model" hold on rows nobody has calibrated on?"""
