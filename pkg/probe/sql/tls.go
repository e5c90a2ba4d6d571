package sql

import (
	"crypto/tls"
	"crypto/x509"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"strings"

	"github.com/go-sql-driver/mysql"

	"github.com/process-wrapper/process-wrapper/pkg/probe"
)

// The options of a data source name of mysql that are ours, with the names that the
// URL of a broker has for the same. The driver takes a private authority only from
// a program that registers one.
const (
	caOption   = "cacertfile"
	certOption = "certfile"
	keyOption  = "keyfile"
)

// certificates does what our options say, and takes them out of cfg, whose driver
// would set them as variables of the session.
func certificates(cfg *mysql.Config) error {
	ca, cert, key := cfg.Params[caOption], cfg.Params[certOption], cfg.Params[keyOption]
	for _, option := range []string{caOption, certOption, keyOption} {
		delete(cfg.Params, option)
	}
	switch {
	case ca == "" && cert == "" && key == "":
		return nil
	case cfg.TLS == nil || cfg.TLS.InsecureSkipVerify:
		return errors.New("the data source name of mysql names files with certificates, which are for tls=true alone")
	case (cert == "") != (key == ""):
		return errors.New("the data source name of mysql has one of certfile and keyfile: wants both")
	}
	if ca != "" {
		text, err := os.ReadFile(ca)
		if err != nil {
			return unreadable(caOption, err)
		}
		cfg.TLS.RootCAs = x509.NewCertPool()
		if !cfg.TLS.RootCAs.AppendCertsFromPEM(text) {
			return fmt.Errorf("%s of the data source name of mysql: %s holds no certificate in PEM", caOption, probe.Excerpt(ca, 100))
		}
	}
	if cert != "" {
		pair, err := tls.LoadX509KeyPair(cert, key)
		if err != nil {
			return unreadable(certOption+" and "+keyOption, err)
		}
		cfg.TLS.Certificates = []tls.Certificate{pair}
	}
	return nil
}

// slashes escapes those of paths in the options, as the driver takes the last one of
// all for the begin of the database.
func slashes(dsn string) string {
	at := strings.LastIndexByte(dsn, '?')
	if at <= strings.LastIndexAny(dsn, "@)") {
		return dsn
	}
	return dsn[:at+1] + strings.ReplaceAll(dsn[at+1:], "/", "%2F")
}

func unreadable(option string, err error) error {
	var file *fs.PathError
	if errors.As(err, &file) {
		return fmt.Errorf("%s of the data source name of mysql: %s: %w", option, probe.Excerpt(file.Path, 100), file.Err)
	}
	return fmt.Errorf("%s of the data source name of mysql: %w", option, err)
}
