// Package e2e drives the built binaries as their users do: configs, signals, sockets, exit codes.
// It is a module of its own and imports nothing of ours, so that it can only know what a user can.
package e2e
