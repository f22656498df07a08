"""What the page of its own is made of beside the tab: logins, the gate before every request, files, progress."""
