module github.com/process-wrapper/process-wrapper/tools/e2e

go 1.26.0
