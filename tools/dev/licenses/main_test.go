package main

import (
	"os"
	"path/filepath"
	"strings"
	"testing"
)

func TestLicensesAreToldByTheirWords(t *testing.T) {
	const bsd = "Redistribution and use in source and binary forms, with or without modification, are permitted\n * if this list of conditions is kept.\n"
	for _, test := range []struct{ name, text, want string }{
		{"MIT in lines", "Permission is hereby granted, free of charge,\nto any person obtaining a copy", "MIT"},
		{"MIT in a comment", "// Permission is hereby granted, free\n * of charge, to any person obtaining a copy", "MIT"},
		{"two clauses", bsd, "BSD-2-Clause"},
		{"three clauses", bsd + "may not be used to endorse or promote\nproducts derived from it", "BSD-3-Clause"},
		{"four clauses", bsd + "may not endorse or promote products derived; advertising materials must name us", ""},
		{"two of them", bsd + "Apache License\n   Version 2.0, January 2004\n 3. Grant of Patent License.", "Apache-2.0 BSD-2-Clause"},
		{"the title of Apache alone", "Apache License Version 2.0", ""},
		{"the GPL", "GNU GENERAL PUBLIC LICENSE\nVersion 3, 29 June 2007", "not allowed"},
		{"the GPL beside MIT", "Permission is hereby granted, free of charge, to any person obtaining a copy\nGNU Affero General Public License\nVersion 3, 19 November 2007", "not allowed"},
		{"a clause on top", "Commons Clause\nApache License\n   Version 2.0, January 2004\n 3. Grant of Patent License.", "not allowed"},
		{"nothing", "", ""},
		{"something else", "All rights reserved.", ""},
	} {
		t.Run(test.name, func(t *testing.T) {
			got, err := identify([]byte(test.text))
			switch {
			case test.want == "not allowed":
				if err == nil || !strings.Contains(err.Error(), test.want) {
					t.Errorf("got %v, %v", got, err)
				}
			case test.want == "":
				if err == nil {
					t.Errorf("got %v", got)
				}
			case err != nil || strings.Join(got, " ") != test.want:
				t.Errorf("got %v, %v; want %s", got, err, test.want)
			}
		})
	}
}

func TestAModuleWithoutALicenseIsRefused(t *testing.T) {
	m := module{Path: "example.com/m", Dir: t.TempDir()}
	if err := m.read(); err == nil {
		t.Errorf("it has %v", m.licenses)
	}
	for name, text := range map[string]string{"LICENSE.md": "Permission is hereby granted, free of charge, to any person obtaining a copy", "NOTICE": "made by us", "license.go": "package m"} {
		if err := os.WriteFile(filepath.Join(m.Dir, name), []byte(text), 0o600); err != nil {
			t.Fatal(err)
		}
	}
	if err := m.read(); err != nil || len(m.licenses) != 1 || len(m.texts) != 2 {
		t.Errorf("it has %v and %d texts, %v", m.licenses, len(m.texts), err)
	}
}

func TestAListThatIsOutOfDateIsRefused(t *testing.T) {
	file := filepath.Join(t.TempDir(), "list")
	if err := os.WriteFile(file, []byte("old\n"), 0o600); err != nil {
		t.Fatal(err)
	}
	if compare(file, []byte("old\n")) != nil || compare(file, []byte("new\n")) == nil || compare(file+"-gone", nil) == nil {
		t.Error("the comparison is wrong")
	}
}
