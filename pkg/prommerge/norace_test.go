//go:build !race

package prommerge_test

const raced = false
