package wrapper

import (
	"context"
	"fmt"
	"net/http"
	"strings"
	"time"

	"github.com/process-wrapper/process-wrapper/pkg/cli"
)

// completions are the scripts for shells. All of them ask us what may stand where
// the cursor is, so they need not know any command.
var completions = map[string]string{
	"bash": `_process_wrapper() {
	local cur=${COMP_WORDS[COMP_CWORD]} IFS=$'\n'
	COMPREPLY=($(process-wrapper complete -- "${COMP_WORDS[@]:1:COMP_CWORD}" 2>/dev/null))
	[[ ${#COMPREPLY[@]} -gt 0 ]] || COMPREPLY=($(compgen -f -- "$cur"))
}
complete -o filenames -F _process_wrapper process-wrapper
`,
	"zsh": `#compdef process-wrapper
_process_wrapper() {
	local -a found
	found=("${(@f)$(process-wrapper complete -- "${(@)words[2,CURRENT]}" 2>/dev/null)}")
	if [[ -n ${found[1]} ]]; then compadd -- $found; else _files; fi
}
if [[ ${funcstack[1]} == _process-wrapper ]]; then _process_wrapper; else compdef _process_wrapper process-wrapper; fi
`,
	"fish": `function __process_wrapper
	set -l words (commandline -opc) (commandline -ct)
	set -l found (process-wrapper complete -- $words[2..-1] 2>/dev/null)
	if set -q found[1]
		printf '%s\n' $found
	else
		__fish_complete_path (commandline -ct)
	end
end
complete -c process-wrapper -f -a '(__process_wrapper)'
`,
}

// completeTime is for the names of processes: nobody waits for longer after a tab.
const completeTime = time.Second

// completeWords prints what may stand in the place of the last word.
func completeWords(ctx context.Context, call *cli.Call, f *flags) error {
	words := f.Complete.Words
	if len(words) > 0 && words[0] == "--" {
		words = words[1:]
	}
	candidates, command, argument := call.Complete(words)
	if argument && strings.HasPrefix(command, "ctl ") {
		candidates = append(candidates, processNames(ctx, words)...)
	}
	for _, c := range candidates {
		if _, err := fmt.Fprintln(call.Stdout, c); err != nil {
			return err
		}
	}
	return nil
}

// processNames asks the control socket for the names that begin as the last word
// does; there are none where nobody answers.
func processNames(ctx context.Context, words []string) []string {
	socket := ""
	for i, w := range words[:len(words)-1] {
		if strings.TrimLeft(w, "-") == "control-socket" {
			socket = words[i+1]
		} else if _, path, ok := strings.Cut(w, "-control-socket="); ok {
			socket = path
		}
	}
	k := newController(socket, nil)
	defer k.client.CloseIdleConnections()
	ctx, cancel := context.WithTimeout(ctx, completeTime)
	defer cancel()
	var all overview
	if _, err := k.ask(ctx, http.MethodGet, "/v1/processes", &all); err != nil {
		return nil
	}
	var names []string
	for _, r := range all.Processes {
		if strings.HasPrefix(r.Name, words[len(words)-1]) {
			names = append(names, r.Name)
		}
	}
	return names
}
