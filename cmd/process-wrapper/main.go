// Process-wrapper runs the processes of a pod's container.
package main

import "github.com/process-wrapper/process-wrapper/pkg/wrapper"

func main() { wrapper.Main() }
