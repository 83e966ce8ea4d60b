"""Many processes and many classes: measured where that can be (`processes`), and else on paper (`paper`)."""
