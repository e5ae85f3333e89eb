"""What a second reader would stumble over, found by machine; nothing is ever dropped or changed here."""
