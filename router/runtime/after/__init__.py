"""What happens to an answer once it is there: checked before it is sent, or judged after."""
