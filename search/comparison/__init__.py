"""What differences are worth: arms compared by matched seeds, and a front confirmed anew."""
