"""`router policy evaluate`: what would a new policy have earned on the traffic that was logged?"""
