"""What a study says: its table, sentences, figures and page, from the files of its result folder alone."""
