"""What does a newcomer see?"""
