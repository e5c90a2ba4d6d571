package cli

import (
	"slices"
	"strings"

	"github.com/alecthomas/kong"
)

// complete returns what may stand in the place of the last of words, which is what was typed of
// it: commands and flags of the model. names says that it is an argument of a command, whose path is command.
func complete(model *kong.Application, words []string) (candidates []string, command string, argument bool) {
	if len(words) == 0 {
		words = []string{""}
	}
	node, typed := model.Node, words[len(words)-1]
	for i := 0; i < len(words)-1; i++ {
		word := words[i]
		if word == "--" {
			return nil, commandPath(node), false
		}
		if strings.HasPrefix(word, "-") {
			if takesValue(node, word) {
				i++
			}
			continue
		}
		if next, err := descend(node, word); err == nil {
			node = next
		}
	}
	if n := len(words); n > 1 && takesValue(node, words[n-2]) {
		return nil, commandPath(node), false // the shell knows files
	}
	if strings.HasPrefix(typed, "-") {
		for _, f := range flagList(node) {
			candidates = append(candidates, "-"+f.Name)
		}
	} else {
		for _, child := range visible(node.Children) {
			candidates = append(candidates, child.Name)
		}
		argument = len(node.Positional) > 0
	}
	candidates = slices.DeleteFunc(candidates, func(c string) bool { return !strings.HasPrefix(c, typed) })
	slices.Sort(candidates)
	return candidates, commandPath(node), argument
}

// takesValue says whether the word after a flag is its value.
func takesValue(node *kong.Node, word string) bool {
	if !strings.HasPrefix(word, "-") || strings.Contains(word, "=") {
		return false
	}
	f := flagsOf(node)[strings.TrimLeft(word, "-")]
	return f != nil && !f.IsBool() && !f.IsCounter()
}
