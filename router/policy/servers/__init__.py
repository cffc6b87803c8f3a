"""What does a deployment say of the server behind it?"""
