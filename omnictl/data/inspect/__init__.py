"""What `omnictl data` finds in a corpus before it is trained on."""
