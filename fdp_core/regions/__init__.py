"""An option of FDP for small and many words: vectors of word regions, and the engines that run them."""
