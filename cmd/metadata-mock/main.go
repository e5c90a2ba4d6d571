// Metadata-mock plays the metadata server of a virtual machine that is about to be preempted.
package main

import "github.com/process-wrapper/process-wrapper/pkg/metadata/mock"

func main() { mock.Main() }
