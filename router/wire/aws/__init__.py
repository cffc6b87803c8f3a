"""How AWS's own services and the models behind them spell requests and answers: pure codecs."""
