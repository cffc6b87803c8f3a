"""What deployments on AWS may ask for: is it offered there, and does it go together?"""
